# srgan_fast for CPUs: builds a wheel with every instruction set, and installs it alone.
#   docker build -t srgan-fast .
#   docker run --rm -v "$PWD:/images" srgan-fast upscale photo.jpg -o large.png
FROM python:3.12-slim-bookworm AS build
# The release's own compiler, whatever its patch level.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
ENV SRGAN_FAST_ISAS=all
RUN pip wheel --no-cache-dir --wheel-dir /wheels '.[formats]'

FROM python:3.12-slim-bookworm
# The first stage has the one version that there is.
# hadolint ignore=DL3013
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links=/wheels 'srgan_fast[formats]' \
    && useradd --create-home --uid 1000 upscaler
USER 1000
# Results belong to whoever runs the container: add --user "$(id -u):$(id -g)".
ENV SRGAN_FAST_CACHE=/tmp/srgan_fast
WORKDIR /images
ENTRYPOINT ["srgan-fast"]
CMD ["--help"]
