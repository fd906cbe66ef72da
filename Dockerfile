# syntax=docker/dockerfile:1
# The server in a container: without arguments, it serves the demo model on port 8000. docs/deploy.md explains it.

FROM python:3.11-slim AS build
RUN python -m venv /opt/mlc_serve
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY mlc_serve ./mlc_serve
RUN --mount=type=cache,target=/root/.cache/pip /opt/mlc_serve/bin/pip install '.[otel]'

FROM python:3.11-slim
LABEL org.opencontainers.image.title="mlc_serve" \
      org.opencontainers.image.description="An OpenAI-compatible server for language models" \
      org.opencontainers.image.licenses="Apache-2.0"
# Models are compiled for the CPU that they are served on, when they are first used; the C compiler links the result.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
# Libraries, weights and downloads are kept in /cache. Any user of group 0 may write there, because some clusters
# choose the user's id.
RUN useradd --uid 10001 --gid 0 --home-dir /cache --no-create-home mlc_serve \
    && install --directory --owner=10001 --group=0 --mode=2775 /cache
COPY --from=build /opt/mlc_serve /opt/mlc_serve
ENV PATH=/opt/mlc_serve/bin:$PATH \
    XDG_CACHE_HOME=/cache
USER 10001:0
WORKDIR /cache
EXPOSE 8000
# Kubernetes ignores this check and has probes of its own. http.client takes no proxy from the environment.
HEALTHCHECK --interval=30s --timeout=10s --start-period=10m \
    CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 8000, timeout=9); \
c.request('GET', '/health'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["mlc_serve"]
CMD ["serve", "--host", "0.0.0.0"]
