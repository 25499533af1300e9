"""A scan as a page that people read: self-contained HTML, without scripts and network."""
