"""What several tests share: toy victims, whole runs, work for executors, a Ray cluster, an object store."""
