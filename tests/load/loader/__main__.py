"""`python -m tests.load.loader --url … --events …`: fills a read database with a year of events."""

import sys

from tests.load.loader.load import main

sys.exit(main())
