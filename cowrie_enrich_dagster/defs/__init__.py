"""All of Dagster: resources, assets, checks, jobs, schedules, sensors.

Dagster 1.13 marks parameters as beta that this project needs (`backfill_policy`) or does not even use; the
warnings are of no use to those who run it.
"""

import warnings

from dagster import BetaWarning

warnings.filterwarnings("ignore", category=BetaWarning)
