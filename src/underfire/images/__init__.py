"""Pictures: photos in, 8-bit PNGs out, maps and what is drawn over a photo."""
