"""All runs below a folder on one page: written as a file, or served while they live.

Start with `catalogue`, which finds them, and `index_page`, which shows them; `static_index` writes the page.
`app` answers requests with what `inside` may read, `stop` asks a run to stop, and `server` listens.
"""
