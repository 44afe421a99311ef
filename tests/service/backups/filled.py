"""Rows of MLflow's tables and objects, written without a server."""

import time
import uuid


def put(stores, objects):
    client = stores.s3()
    for key, content in objects.items():
        client.put_object(Bucket=stores.bucket, Key=key, Body=content)


def contents(stores):
    client = stores.s3()
    keys = [one.key for one in stores.objects(client)]
    return {key: client.get_object(Bucket=stores.bucket, Key=key)["Body"].read() for key in keys}


def insert(stores, table, **values):
    columns, places = ", ".join(values), ", ".join(["%s"] * len(values))
    with stores.connect() as connection:
        connection.execute(f"insert into {table} ({columns}) values ({places})", [*values.values()])


def add_run(stores, **values):
    """Insert a run and return its id."""
    run_id = uuid.uuid4().hex
    place = f"mlflow-artifacts:/0/{run_id}/artifacts"
    now = round(1000 * time.time())
    row = {"status": "FINISHED", "start_time": now, "lifecycle_stage": "active", "experiment_id": 0, **values}
    insert(stores, "runs", run_uuid=run_id, name="run", artifact_uri=place, **row)
    return run_id
