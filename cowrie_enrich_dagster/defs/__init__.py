"""All of Dagster: resources, assets, checks, jobs, schedules, sensors.

`backfill_policy` is marked beta in Dagster 1.13; single-run backfills are what this project needs it for, so
its warning is of no use to those who run it.
"""

import warnings

from dagster import BetaWarning

warnings.filterwarnings("ignore", category=BetaWarning, message=r"Parameter `backfill_policy`")
warnings.filterwarnings("ignore", category=BetaWarning, message=r"Parameter `include_sources`")
