"""Text to checked program. Depends on lark and never imports torch."""
