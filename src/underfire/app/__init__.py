"""The app in the browser: forge a photo and watch it, check a file against an alarm, browse an audit.

It serves this machine alone (127.0.0.1), keeps photos in memory until it ends, and its pages load nothing from anywhere
else. Starlette serves them; the pages are Jinja2 templates with a little JavaScript of their own, without a build step.
"""
