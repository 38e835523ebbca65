"""Read very long documents with a recurrent SAMBA model: the command-line program."""
