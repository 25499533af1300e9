"""The HTTP API: a door to the queue's desk. ``veriframe serve`` runs it; nothing else imports it."""
