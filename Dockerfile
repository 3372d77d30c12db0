# The suite on processors:
#   docker build --tag ssl4eo-bench .
#   docker run --rm --volume "$PWD:/work" ssl4eo-bench run --task eurosat-rgb --protocol linear --sample
FROM python:3.12-slim AS build
WORKDIR /source
COPY . .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# Where PyTorch's build without CUDA is, such as the index that its installation page names: an image a third as large.
ARG TORCH_INDEX=""
RUN if [ -n "$TORCH_INDEX" ]; then pip install --no-cache-dir --index-url "$TORCH_INDEX" "torch>=2.4"; fi
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(echo /wheels/*.whl)[cpu,sample]"
ENV SSL4EO_BENCH_DATA=/data SSL4EO_BENCH_CACHE=/cache
RUN useradd --uid 1000 --create-home bench && install --directory --owner bench /work /data /cache
USER 1000
WORKDIR /work
VOLUME ["/data", "/cache"]
ENTRYPOINT ["ssl4eo-bench"]
CMD ["--help"]
