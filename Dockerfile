# The page of digits web, and digits predict, without torch:
#   docker build -t digits .
#   docker run --rm -p 127.0.0.1:8000:8000 digits
#   docker run --rm -v "$PWD:/data:ro" digits predict /data/seven.wav
FROM python:3.13-slim
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY conf conf
COPY digits digits
RUN pip install --no-cache-dir --no-compile --constraint constraints.txt '.[live,web]' \
    && rm -rf /src \
    && useradd --create-home digits
USER digits
WORKDIR /home/digits
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8000/healthz')"]
ENTRYPOINT ["digits"]
CMD ["web", "host=0.0.0.0"]
