"""The health page: the state of the parts, alerts, and notices about the champion."""
