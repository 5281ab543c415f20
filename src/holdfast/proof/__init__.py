"""What manifests said: kept, compared, made again.

documents   kept in the store under their digests, each once
difference  what one says that another does not
pinning     a manifest made again from its document
"""
