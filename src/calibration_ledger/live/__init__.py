"""What runs inside other programs; one module a framework, each behind an extra of its own."""
