"""Files, folders, archives and standard input as a lazy stream of documents."""
