"""What a reader wants to know about some days, an address or a session: as data, as a page, as cards.

Not to be confused with `enrichment.run_report`, which is what a *run* came to. Everything here only reads.
"""
