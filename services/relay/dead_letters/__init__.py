"""Dead letters: collected from their queues, and sent again when a person decides so."""
