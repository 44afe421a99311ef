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


def add_champion(stores, files, run_id):
    """Insert version 1 of `emotions`, its alias and its logged model with these files."""
    model_id, now = f"m-{uuid.uuid4().hex}", round(1000 * time.time())
    place = f"0/models/{model_id}/artifacts"
    insert(
        stores,
        "logged_models",
        model_id=model_id,
        experiment_id=0,
        name="model",
        artifact_location=f"mlflow-artifacts:/{place}",
        creation_timestamp_ms=now,
        last_updated_timestamp_ms=now,
        status=2,
        lifecycle_stage="active",
        source_run_id=run_id,
    )
    row = {"name": "emotions", "version": 1, "workspace": "default"}
    times = {"creation_time": now, "last_updated_time": now}
    insert(stores, "registered_models", name="emotions", workspace="default", **times)
    source = {"source": f"models:/{model_id}", "storage_location": f"mlflow-artifacts:/{place}", "run_id": run_id}
    insert(stores, "model_versions", **row, **source, **times, current_stage="None", status="READY")
    insert(stores, "registered_model_aliases", **row, alias="champion")
    put(stores, {f"{place}/{name}": content for name, content in files.items()})
