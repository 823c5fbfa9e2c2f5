"""Object storage behind one small interface: S3 (boto3) and folders of this machine."""
