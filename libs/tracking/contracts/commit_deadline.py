"""The longest time between the making of an id and the end of its commit, on which gateway and relay agree.

The gateway makes the id of a batch before it commits it, and tries until its commit deadline. The relay follows batches
in the order of their ids. It may pass an id only when no older one can be committed any more.
"""

from datetime import timedelta

# the upper bound of the gateway's setting
MAX_COMMIT_DEADLINE_S = 60.0
# The clocks of two hosts differ, and a commit that has reached PostgreSQL ends there.
_MAX_CLOCK_DIFFERENCE_S = 30.0
COMMIT_HORIZON = timedelta(seconds=MAX_COMMIT_DEADLINE_S + _MAX_CLOCK_DIFFERENCE_S)
