"""The page of `dispatcher review`: looks at one campaign's ledger, on this machine alone.

app         puts the pages together; what each one shows stands in a module of its own: overview, letters, log, settle
guard       who may speak with the page, and what every answer carries
words       the page's language
site        what all pages share: desk, templates, heading
serving     the socket, and the link
"""
