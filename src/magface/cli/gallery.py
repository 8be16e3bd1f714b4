r"""Keep people and their faces, and find them again.

A gallery is a file, faces.db if nothing else is said, or a Milvus server. Every command takes --uri:

\b
  FILE             a gallery of its own in one file; needs nothing else
  milvus:FOLDER    a folder of Milvus Lite
  http://HOST:PORT a Milvus server

It may stand before the command, or in MAGFACE_GALLERY. Where MAGFACE_GALLERY_KEY holds a key, a new file is encrypted,
and an old one is opened with it; for a server it is the token.

\b
Examples:
  magface gallery enroll people/          a folder for each person
  magface gallery search party.jpg
  magface gallery --uri door.db info
"""

from __future__ import annotations

import os
import signal

from magface.cli.gallery_care import audit, calibrate, create, info, policy
from magface.cli.gallery_enroll import enroll, reembed
from magface.cli.gallery_exchange import export, import_
from magface.cli.gallery_people import label, merge, move, people, remove, rename
from magface.cli.gallery_search import search, verify
from magface.cli.gallery_uri import ENVIRONMENT, Uri


def common(uri: Uri = None) -> None:
    """What stands before the command."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if uri is not None:
        os.environ[ENVIRONMENT] = uri


gallery = (
    *(enroll, search, verify, people, remove, rename, merge, move, label),
    *(info, create, policy, audit, calibrate, export, import_, reembed),
)
