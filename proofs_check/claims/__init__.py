"""The suite's own claims, one topic a file; every module here is loaded by `proofs_check.load_suite`."""
