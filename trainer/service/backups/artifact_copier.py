"""Copies the objects of the bucket into the folder of a backup."""

import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from trainer.core.errors import SettingsError, TrackingError, shorten
from trainer.service.backups.files import Artifact, Backup
from trainer.service.stores import StoredObject, Stores, object_errors

__all__ = ["ArtifactCopier"]

_THREADS = 8
_CHUNK = 1 << 20
_ATTEMPTS = 3


class ArtifactCopier:
    """Copies what the backup before lacks; the rest becomes hard links to its files. previous: its folder."""

    def __init__(self, stores: Stores, folder: Path, previous: Path | None) -> None:
        self._stores, self._client = stores, stores.s3()
        self._folder, self._previous = folder, previous
        self._known = _known_objects(previous) if previous else {}

    def copy_all(self) -> list[Artifact]:
        """Copy every object. Raises TrackingError when one cannot be read, OSError when one cannot be written."""
        with ThreadPoolExecutor(_THREADS) as pool:
            try:
                copied = list(pool.map(self._copy, self._stores.objects(self._client)))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return [one for one in copied if one is not None]

    def _copy(self, item: StoredObject) -> Artifact | None:
        artifact = self._known.get((item.key, item.etag, item.size))
        return artifact if artifact and self._link(artifact) else self._download(item)

    @object_errors("read the artifacts")
    def _download(self, item: StoredObject) -> Artifact | None:
        """Copy one object. Returns None when a client has deleted it since it was listed."""
        from botocore.exceptions import BotoCoreError

        retry = retry_if_exception_type(BotoCoreError)
        try:
            return Retrying(retry=retry, stop=stop_after_attempt(_ATTEMPTS), reraise=True)(self._download_once, item)
        except self._client.exceptions.NoSuchKey as error:
            if self._is_listed(item.key):
                raise TrackingError(
                    f"Cannot read artifact {shorten(item.key)}: the object store lists it and has no content for it. "
                    "Repair the object store, or delete the artifact."
                ) from error
            return None

    def _is_listed(self, key: str) -> bool:
        found = self._client.list_objects_v2(Bucket=self._stores.bucket, Prefix=key, MaxKeys=1)
        return any(item["Key"] == key for item in found.get("Contents", []))

    def _download_once(self, item: StoredObject) -> Artifact:
        answer = self._client.get_object(Bucket=self._stores.bucket, Key=item.key)
        digest, size = hashlib.sha256(), 0
        partial = self._folder / hashlib.sha256(item.key.encode()).hexdigest()
        with partial.open("wb") as file:
            for chunk in answer["Body"].iter_chunks(_CHUNK):
                digest.update(chunk)
                size += file.write(chunk)
        # A client may have replaced the object since it was listed: size and etag are those of this content.
        artifact = Artifact(key=item.key, size=size, etag=answer["ETag"].strip('"'), sha256=digest.hexdigest())
        if self._link(artifact):
            partial.unlink()
        else:
            partial.rename(self._folder / artifact.file)
        return artifact

    def _link(self, artifact: Artifact) -> bool:
        """Link the content from the backup before, and return whether this backup has it now."""
        target = self._folder / artifact.file
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.is_file():  # another object has the same content
            return True
        source = self._previous / artifact.file if self._previous else target
        if not source.is_file() or source.stat().st_size != artifact.size:
            return False
        try:
            os.link(source, target)
        except FileExistsError:  # another thread was faster
            return True
        except OSError:  # a disk without hard links
            shutil.copy2(source, target)
        return True


def _known_objects(previous: Path) -> dict[tuple[str, str, int], Artifact]:
    """Return key, etag and size → object of an earlier backup; nothing when its list cannot be read."""
    try:
        artifacts = Backup.read(previous).artifacts()
    except (SettingsError, OSError, TypeError, ValueError) as error:
        print(f"The backup {previous.name} cannot be read ({shorten(error)}): every artifact is copied again.")
        return {}
    return {(one.key, one.etag, one.size): one for one in artifacts}
