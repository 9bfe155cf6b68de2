"""Programs that tests run: servers, proxies and workers."""
