"""The Hugging Face hub: the only module of the program that uses the network.

Files are fetched here rather than by huggingface_hub's own download, which begins again from
nothing when it was interrupted (version 2.4).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from samba_cli.errors import ModelError, UsageError

_TIMEOUT = 20.0  # seconds without an answer
_ATTEMPTS = 4  # in a row that brought nothing
_BUSY = (408, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class HubFile:
    """A file of a repository, with what the hub says it holds."""

    name: str
    size: int  # bytes
    sha256: str | None  # of large files; the others have a git id only
    git_id: str | None


@dataclass(frozen=True)
class Repository:
    """A repository at one commit."""

    id: str  # ORG/NAME
    commit: str
    license: str | None
    files: tuple[HubFile, ...]


def endpoint() -> str:
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def look_up(repository: str, revision: str) -> Repository:
    """Ask the hub for the files of a revision. Raises ModelError with one sentence."""
    _prepare()
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError

    try:
        with _sentences(repository, revision):
            info = HfApi(endpoint=endpoint(), library_name="samba-cli").model_info(
                repository, revision=revision, files_metadata=True, timeout=_TIMEOUT
            )
        if not info.sha:
            raise ValueError("no commit")
        files = tuple(
            HubFile(s.rfilename, s.size, s.lfs.sha256 if s.lfs else None, s.blob_id)
            for s in info.siblings or ()
            if s.size is not None
        )
    except HFValidationError as error:
        raise UsageError(f"'{repository}' cannot be the id of a repository") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        said = f"{_host()} does not answer as the hub does; is a proxy or a login page between?"
        raise ModelError(said) from error
    stated = [tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:")]
    return Repository(repository, info.sha, stated[0] if stated else None, files)


def fetch(
    repository: Repository, file: HubFile, target: BinaryIO, arrived: Callable[[int], None]
) -> None:
    """Append to `target` what it lacks of the file; `arrived` hears how many bytes came.

    A connection that breaks is taken up again where it broke. The content is not checked.
    Raises ModelError with one sentence; OSError where `target` cannot be written.
    """
    from huggingface_hub import hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    url = hf_hub_url(repository.id, file.name, revision=repository.commit, endpoint=endpoint())
    # Not compressed: a range must be a range of the file.
    headers = {**build_hf_headers(library_name="samba-cli"), "Accept-Encoding": "identity"}
    failures = 0
    while (have := target.seek(0, os.SEEK_END)) < file.size:
        if failures > 1:  # at once the first time
            time.sleep(2.0 ** (failures - 2))
        ranged = {"Range": f"bytes={have}-"} if have else {}
        with _sentences(repository.id, repository.commit):
            again = _fetch_once(url, {**headers, **ranged}, file.size, target, arrived)
            failures = 0 if target.tell() > have else failures + 1
            if again is not None and failures >= _ATTEMPTS:
                raise again
        if failures >= _ATTEMPTS:
            raise ModelError(f"{_host()} sends nothing of {file.name}; try again later")


def _fetch_once(
    url: str, headers: dict[str, str], size: int, target: BinaryIO, arrived: Callable[[int], None]
) -> Exception | None:
    """One request. Returns the failure that another attempt may cure, if there was one."""
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import get_session, hf_raise_for_status, httpx

    session = get_session()
    try:
        with session.stream(
            "GET", url, headers=headers, timeout=_TIMEOUT, follow_redirects=True
        ) as response:
            if response.is_error:
                response.read()  # the sentence may need what it says
                hf_raise_for_status(response)
            if "Range" in headers and response.status_code != 206:
                arrived(-target.tell())  # the whole file comes again
                target.seek(0)
                target.truncate()
            for piece in response.iter_bytes():
                target.write(piece)
                arrived(len(piece))
                if target.tell() > size:  # not what was announced: found out when it is checked
                    break
    except HfHubHTTPError as error:
        if error.response.status_code not in _BUSY:
            raise
        return error
    except httpx.TransportError as error:
        return error
    return None


def _prepare() -> None:
    """Our sentences and our progress bar are what is said; nothing more than needed is sent."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    from huggingface_hub.utils.logging import set_verbosity_error

    set_verbosity_error()


def _host() -> str:
    return endpoint().partition("://")[2]


@contextmanager
def _sentences(repository: str, revision: str) -> Iterator[None]:
    """Every way a request can fail, as a ModelError."""
    from huggingface_hub import errors
    from huggingface_hub.utils import httpx

    try:
        yield
    except errors.GatedRepoError as error:
        said = (
            f"{repository} is gated: accept its terms at {endpoint()}/{repository} and set "
            "HF_TOKEN to a token of your account"
        )
        raise ModelError(said) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(_refused(repository, 401)) from error
    except errors.RevisionNotFoundError as error:
        said = f"{repository} has no revision '{revision}'"
        hint = f"see {endpoint()}/{repository}/commits"
        raise ModelError(f"{said}; {hint}") from error
    except errors.OfflineModeIsEnabled as error:
        raise ModelError("HF_HUB_OFFLINE is set; unset it to pull a model") from error
    except errors.HfHubHTTPError as error:
        raise ModelError(_refused(repository, error.response.status_code)) from error
    except httpx.HTTPError as error:
        why = str(error) or type(error).__name__
        said = f"cannot reach {_host()} ({why}); pulling a model needs the network"
        raise ModelError(said) from error


def _refused(repository: str, status: int) -> str:
    if status == 401:  # the hub does not say which: missing, or private
        said = f"there is no repository {repository} on {_host()} for you to see"
        return f"{said}; check the name; a private one needs a token in HF_TOKEN"
    if status == 403:
        return f"{_host()} refuses {repository} ({status}); check the token in HF_TOKEN"
    if status == 429:
        return f"{_host()} has had too many requests from here; wait some minutes"
    if status == 404:
        return f"a file of {repository} is no longer on {_host()}; run the same command again"
    return f"{_host()} answered {status}; try again later"
