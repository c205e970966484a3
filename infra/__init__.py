"""Where work runs and where results live: settings, storage, cluster, egress policy."""
