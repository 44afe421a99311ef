"""Make or upgrade the tables of MLflow and of its accounts, after a backup; make accounts, webhooks and bucket.

Runs before the server starts:
`python -m trainer.service.prepare --secrets DIR --database HOST:PORT --s3 HOST:PORT --backups DIR`
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from trainer.core.errors import EmotionsError
from trainer.service import connections, secrets
from trainer.service.accounts.programs import make_program_accounts
from trainer.service.backups import backup, schema
from trainer.service.settings import ServiceSettings
from trainer.service.stores import Stores, object_errors
from trainer.service.tracking_server import server_environment
from trainer.service.webhooks import make_webhooks

__all__ = ["back_up_before_upgrade", "main", "make_bucket", "make_tables"]


def make_tables(stores: Stores, secret_folder: Path) -> None:
    """Make or upgrade the tables of this version of MLflow, and the first accounts where there are none.

    The process has the environment of a tracking server.
    """
    os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"] = secrets.read(secret_folder, secrets.ADMIN_PASSWORD)
    # The import reads the environment.
    from mlflow.server import auth
    from mlflow.store.db import utils as db_utils

    utils: Any = db_utils
    engine = utils.create_sqlalchemy_engine_with_retry(stores.url())
    utils._safe_initialize_tables(engine)
    utils._upgrade_db(engine)
    engine.dispose()
    auth.bootstrap_admin_user()
    make_program_accounts(auth.store, secret_folder)


def make_bucket(stores: Stores) -> None:
    """Make the bucket of the artifacts, unless it is there."""
    client = stores.s3()
    with object_errors("make the bucket"):
        if stores.bucket not in {one["Name"] for one in client.list_buckets()["Buckets"]}:
            client.create_bucket(Bucket=stores.bucket)


def back_up_before_upgrade(stores: Stores, backups: Path, keep: int) -> None:
    """Make a backup when an older MLflow made the tables, because `make_tables` will change them.

    Raises SettingsError when a newer MLflow made them, TrackingError when there is no backup; nothing is changed then.
    """
    with stores.connect() as connection:
        revisions = schema.read_revisions(connection)
    schema.check_known(revisions, "the one that made the database")
    if revisions and not schema.is_current(revisions):
        print("An older MLflow made the tables. They are upgraded after a backup.", flush=True)
        made = backup.report_backup(stores, backups, keep=keep)
        print(f"Backup {made.folder}. To go back to the older MLflow: docker/restore.sh {made.folder.name} --replace")


def main() -> int:
    """Prepare database and bucket; 1 after an error."""
    parser = argparse.ArgumentParser(prog="python -m trainer.service.prepare", description=main.__doc__)
    connections.add_arguments(parser)
    parser.add_argument("--backups", type=Path, required=True, help="folder of the backups")
    parser.add_argument("--health", default="", help="HOST:PORT of the health page, which gets webhooks")
    parser.add_argument("--serve", default="", help="HOST:PORT of the served champion, which gets them too")
    given = parser.parse_args()
    try:
        settings = ServiceSettings.read()
        stores = connections.open_stores(given.secrets, given.database, given.s3)
        receivers = {"notices": given.health, "serve": given.serve if settings.serve else ""}
        addresses = {name: address for name, address in receivers.items() if address}
        with tempfile.TemporaryDirectory(prefix="emotions-prepare-") as scratch:
            # Before all else: MLflow's modules read the key of the webhooks when they are imported, and looking at the
            # revisions of the tables imports them.
            os.environ.update(server_environment(settings, given.secrets, stores, Path(scratch)))
            make_bucket(stores)
            back_up_before_upgrade(stores, given.backups, settings.backup_keep)
            make_tables(stores, given.secrets)
            make_webhooks(stores, addresses, secrets.read(given.secrets, "webhook_secret"))
    except (EmotionsError, OSError) as error:  # OSError: the disk has no room for the backup
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
