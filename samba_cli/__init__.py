"""Read very long documents with a recurrent SAMBA model: the command-line program."""

__version__ = "0.1.0"
