"""What an account at a relay is opened with: passwords, and later what an identity provider gives instead of them."""
