"""The plan of an audit: settings are checked and filled in, and become units of work with keys and costs."""
