# danetc with a CPU's torch and a C++ compiler for its kernels.
#
#   docker build --tag danetc .
#   docker run --rm --user "$(id -u):$(id -g)" --volume "$PWD:/work" danetc check spec.danet
#
# Kernels are compiled once where a folder for them is mounted: --volume "$HOME/.cache/danetc:/kernels"
# --env DANETC_CACHE_DIR=/kernels.
#
# With a GPU: --build-arg TORCH=https://download.pytorch.org/whl/cu130, and `docker run --gpus all`.
FROM python:3.13-slim-trixie AS wheel
WORKDIR /source
COPY . .
RUN python -m pip install --no-cache-dir "build>=1.2,<2" && python -m build --wheel --outdir /wheel

FROM python:3.13-slim-trixie
ARG TORCH=https://download.pytorch.org/whl/cpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# hadolint ignore=DL3008
RUN apt-get update && \
    apt-get install --yes --no-install-recommends g++ && \
    rm -rf /var/lib/apt/lists/*
RUN python -m pip install --no-cache-dir "torch>=2.10" "torchvision>=0.25" --index-url "$TORCH"
COPY --from=wheel /wheel /wheel
# hadolint ignore=DL3013
RUN wheels=(/wheel/*.whl) && \
    python -m pip install --no-cache-dir "${wheels[0]}[plot,spikingjelly]" && \
    useradd --create-home --uid 1000 danetc
ENV OMP_WAIT_POLICY=PASSIVE
USER 1000
WORKDIR /work
ENTRYPOINT ["danetc"]
CMD ["--help"]
