# One image for migrate, api and worker: `docker compose build`, or `docker build -t flowtrack .`
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY requirements.txt ./
RUN python -m venv /app && /app/bin/pip install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml README.md flowtrack.py settings.py worker.py serving.py examination.py ./
COPY api api
COPY db db
COPY workflows workflows
COPY activities activities
COPY local local
COPY telemetry telemetry
RUN python -m venv /build && /build/bin/pip install --no-cache-dir hatchling==1.33.0 \
 && /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
 && /app/bin/pip install --no-cache-dir --no-deps /wheel/*.whl

FROM python:3.11-slim-bookworm
RUN useradd --system --uid 10001 --no-create-home flowtrack
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 FLOWTRACK_ENV=production
USER flowtrack
ENTRYPOINT ["flowtrack"]
CMD ["api"]
