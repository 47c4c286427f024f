# A server on the CPU, with compiled operators; the model is in the package:
#   docker build -t cascadezoo . && docker run --rm -p 8000:8000 cascadezoo
FROM python:3.11.11-slim-bookworm AS builder
RUN apt-get update && apt-get install --yes --no-install-recommends g++
RUN python -m venv /opt/cascadezoo
ENV PATH=/opt/cascadezoo/bin:$PATH
WORKDIR /src
COPY constraints-dev.txt ./
# PyTorch without CUDA, before anything asks for the larger one; its index lacks the pinned versions of what it needs,
# which comes with the package below
RUN pip install --no-cache-dir --no-deps -c constraints-dev.txt --index-url https://download.pytorch.org/whl/cpu torch torchvision
COPY . .
RUN pip wheel --no-deps --wheel-dir dist .
RUN pip install --no-cache-dir -c constraints-dev.txt "$(ls dist/cascadezoo-*.whl)[serve]"
RUN python .ci/wheel_ops.py dist
RUN pip install --no-cache-dir --no-deps dist/cascadezoo_ops-*.whl

FROM python:3.11.11-slim-bookworm
RUN useradd --uid 10001 --create-home --home-dir /var/lib/cascadezoo cascadezoo
COPY --from=builder /opt/cascadezoo /opt/cascadezoo
ENV PATH=/opt/cascadezoo/bin:$PATH CASCADEZOO_HOME=/var/lib/cascadezoo
USER 10001
WORKDIR /var/lib/cascadezoo
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
ENTRYPOINT ["cascadezoo"]
CMD ["serve", "cascade_mask_r18_fpn_shapes", "--host", "0.0.0.0", "--port", "8000"]
