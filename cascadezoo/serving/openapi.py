"""What the OpenAPI page says of the routes beyond their parameters."""

from typing import Any

from cascadezoo.serving.received import FIELD

_FILE = {"schema": {"type": "string", "format": "binary"}}
_ERROR = {
    "schema": {
        "type": "object",
        "properties": {"error": {"type": "string"}, "request_id": {"type": "string"}},
        "required": ["error", "request_id"],
    }
}


def _error(description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": _ERROR}}


PREDICT: dict[str, Any] = {
    "operation_id": "predict",
    "summary": "Detect on an image",
    "description": "COCO's annotation file of the image with its detections, each with its score, or the image with "
    "these drawn on it.",
    "openapi_extra": {
        "requestBody": {
            "required": True,
            "content": {
                "image/jpeg": _FILE,
                "image/png": _FILE,
                "application/octet-stream": _FILE,
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": {FIELD: _FILE["schema"]}, "required": [FIELD]}
                },
            },
        }
    },
    "responses": {
        200: {
            "description": "What was found",
            "content": {"application/json": {"schema": {"type": "object"}}, "image/png": _FILE, "image/jpeg": _FILE},
        },
        400: _error("A malformed form"),
        406: _error("No answer of an accepted type"),
        408: _error("The body took too long"),
        413: _error("More bytes or more pixels than allowed"),
        415: _error("A body of another type"),
        422: _error("No image, or a parameter out of range"),
        500: _error("An unexpected error"),
        503: {
            **_error("Too many requests at once, no memory, or a worker lost"),
            "headers": {"Retry-After": {"schema": {"type": "integer"}}},
        },
    },
}

HEALTH: dict[str, Any] = {
    "operation_id": "health",
    "summary": "Whether the server lives, and takes a request",
    "responses": {503: {"description": "A worker was lost: restart the server"}},
}

READY: dict[str, Any] = {
    "operation_id": "ready",
    "summary": "The same, 503 while the server takes no request",
    "responses": {503: {"description": "As many requests as allowed are being worked on, or a worker was lost"}},
}

METADATA: dict[str, Any] = {"operation_id": "metadata", "summary": "The model and its terms, and the limits"}
