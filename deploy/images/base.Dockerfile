# What all services stand on: Python, the locked packages of others, and a user who is not root.
#
#   docker build --tag catalyst/base:dev --file deploy/images/base.Dockerfile .
#
# Packages come from deploy/images/wheels if somebody put them there (catalyst.local does), else from pip's own index.
ARG PYTHON=python:3.11-slim
FROM ${PYTHON} AS packages
COPY deploy/images /images
RUN /images/install build.lock /tools && PYTHONPATH=/tools /images/install requirements.lock /opt/catalyst

FROM ${PYTHON}
LABEL org.opencontainers.image.description="Python and the packages that Catalyst's services share"
RUN groupadd --gid 65532 catalyst && \
    useradd --uid 65532 --gid 65532 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin catalyst
COPY --from=packages /opt/catalyst /opt/catalyst
ENV PYTHONPATH=/opt/catalyst PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
WORKDIR /tmp
