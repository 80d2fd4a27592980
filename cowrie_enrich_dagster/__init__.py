"""Cowrie honeypot logs in, enriched attacker sessions out."""
