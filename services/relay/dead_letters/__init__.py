"""Dead letters: collected from their queues, sent again when somebody decides so."""
