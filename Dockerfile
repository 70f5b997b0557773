# An image for machines with NVIDIA GPUs: docs/machines.md says how it is built and run.
#
# torch's wheels bring CUDA, so the base is plain Debian, whose Python is the tested one. The host needs
# NVIDIA's driver and the NVIDIA Container Toolkit.
ARG BASE=debian:bookworm-slim
FROM ${BASE}

# gcc and Python's headers: triton compiles a small launcher when a kernel is first used.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates gcc libc6-dev python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HF_HOME=/cache/huggingface \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

# torch first, in a layer of its own: it is the largest part and changes least.
WORKDIR /opt/vlm-r1
COPY constraints.txt ./
RUN python3 -m venv /opt/venv \
    && pip install --no-cache-dir torch --constraint constraints.txt

ARG EXTRAS=hub,qlora,tensorboard
COPY pyproject.toml README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir ".[${EXTRAS}]" --constraint constraints.txt
COPY recipes recipes

# Whoever runs the container may write the cache: docker run --user "$(id -u):$(id -g)" …
RUN mkdir -p /cache/huggingface && chmod -R a+rwX /cache

CMD ["vlm-r1", "--help"]
