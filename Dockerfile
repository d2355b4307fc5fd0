# The light install behind HTTP: docs/serving.md.
#   docker build -t tfproj . && docker run -p 8000:8000 -e TFPROJ_TOKEN=SECRET tfproj facades
FROM python:3.13-slim
COPY . /source
RUN pip install --no-cache-dir '/source[serve]' && rm -r /source \
    && useradd --create-home tfproj
USER tfproj
WORKDIR /home/tfproj
EXPOSE 8000
HEALTHCHECK CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=5)"]
ENTRYPOINT ["tfproj", "serve", "--host", "0.0.0.0"]
CMD ["facades"]
