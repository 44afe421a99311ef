"""Train a text classifier: entry points, their settings and the pipeline that joins the packages below."""
