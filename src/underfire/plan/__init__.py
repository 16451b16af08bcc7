"""Plan an audit: settings, checked and filled in, become units of work with keys and costs. Nothing is run here."""
