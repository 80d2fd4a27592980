"""The entry point that Dagster loads."""

from dagster import Definitions, multiprocess_executor

from cowrie_enrich_dagster.defs.assets import assets
from cowrie_enrich_dagster.defs.attack_report import daily_report, report_days, reports
from cowrie_enrich_dagster.defs.jobs import (
    cleanup_cache,
    drain_lookups,
    enrich_day,
    forget_old_days,
    import_filesystem_cache,
    index_logs,
    prune_history,
    refresh_stale,
)
from cowrie_enrich_dagster.defs.resources import resources
from cowrie_enrich_dagster.defs.schedules import schedules
from cowrie_enrich_dagster.defs.sensors import sensors

defs = Definitions(
    assets=[*assets, *reports],
    jobs=[
        enrich_day,
        index_logs,
        drain_lookups,
        refresh_stale,
        cleanup_cache,
        import_filesystem_cache,
        prune_history,
        forget_old_days,
        report_days,
    ],
    schedules=[*schedules, daily_report],
    sensors=sensors,
    resources=resources,
    # Fetching is waiting: one step per service may wait at the same time, whatever the number of cores.
    # A step is a process; forked from one that has loaded everything it starts in milliseconds, not seconds.
    executor=multiprocess_executor.configured(
        {"max_concurrent": 10, "start_method": {"forkserver": {"preload_modules": [__name__]}}}
    ),
)
