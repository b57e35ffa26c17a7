"""The central service: metadata only, with permissions in the handlers' signatures and an audit event per change."""
