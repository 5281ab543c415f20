"""What people who build on Holdfast need to test what they build.

store_contract.py  what every store promises, as tests that anybody's store can run
"""

from holdfast.testing.store_contract import StoreContract

__all__ = ["StoreContract"]
