"""Webhook endpoints and their deliveries. Not part of OpenAI's API."""

from typing import Literal

EndpointStatus = Literal["enabled", "disabled"]
DeliveryStatus = Literal["pending", "delivered", "failed"]
