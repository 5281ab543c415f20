"""An authority that pays for tools in tests, and remembers what."""

from __future__ import annotations

from decimal import Decimal

from holdfast.errors import PaymentRefused
from holdfast.services import PaymentRequest, Receipt


class Purse:
    """Pays as long as there is money in it; the same key once. Lend it with `services={PAYMENTS: Purse("20")}`."""

    def __init__(self, money: Decimal | str) -> None:
        self.left = Decimal(money)
        self.paid: dict[str, PaymentRequest] = {}
        """What was paid, by key, in order."""
        self.asked = 0
        """How often it was asked."""

    async def pay(self, request: PaymentRequest) -> Receipt:
        """See `Payments.pay`."""
        self.asked += 1
        if request.key not in self.paid:
            if request.amount > self.left:
                raise PaymentRefused(f"there is no money for {request.payee}: {self.left} left")
            self.left -= request.amount
            self.paid[request.key] = request
        amount = self.paid[request.key].amount
        number = list(self.paid).index(request.key) + 1
        return Receipt(id=f"receipt-{number}", amount=amount, currency=request.currency)
