"""Training text: what goes in is filtered, what went in is indexed once, what comes out is compared with it.

`corpus` reads documents from files of all sorts, `filter` takes out personal data, secrets and repeats, `windows` is
the one index behind deduplication, the gateway's output filter and "where did this come from".
"""
