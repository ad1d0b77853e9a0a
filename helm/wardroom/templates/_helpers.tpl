{{- define "wardroom.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "wardroom.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "wardroom.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "wardroom.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "wardroom.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "wardroom.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What would start and then fail, or work and be wrong, is refused here. */}}
{{- define "wardroom.check" -}}
{{- if and (eq .Values.store.kind "sqlite") (gt (int .Values.replicas) 1) -}}
{{- fail (printf "\n\nreplicas is %d, but a SQLite file has one owner.\nhint: set replicas=1, or store.kind=postgres with store.postgres.secret and store.key.secret.\n" (int .Values.replicas)) -}}
{{- end -}}
{{- if eq .Values.store.kind "postgres" -}}
{{- if not .Values.store.postgres.secret -}}
{{- fail "\n\nstore.kind is postgres, but store.postgres.secret is empty.\nhint: kubectl create secret generic NAME --from-literal=url=postgres://USER:PASSWORD@HOST/DATABASE\n" -}}
{{- end -}}
{{- if not .Values.store.key.secret -}}
{{- fail "\n\nstore.kind is postgres, but store.key.secret is empty: all replicas need the same key.\nhint: kubectl create secret generic NAME --from-literal=key=$(head -c 32 /dev/urandom | base64)\n" -}}
{{- end -}}
{{- end -}}
{{- if and (eq .Values.publish.to "amqp") (not .Values.publish.amqp.secret) -}}
{{- fail "\n\npublish.to is amqp, but publish.amqp.secret is empty.\nhint: kubectl create secret generic NAME --from-literal=url=amqps://USER:PASSWORD@HOST:5671/%2f\n" -}}
{{- end -}}
{{- if and .Values.directory.configMap .Values.directory.secret -}}
{{- fail "\n\ndirectory.configMap and directory.secret are both set; the files come from one of them.\n" -}}
{{- end -}}
{{- $names := dict -}}
{{- $ports := dict (toString .Values.admin.port) "admin" -}}
{{- range .Values.feeds -}}
{{- if hasKey $names .name -}}
{{- fail (printf "\n\ntwo feeds are named %s.\n" .name) -}}
{{- end -}}
{{- if hasKey $ports (toString .port) -}}
{{- fail (printf "\n\nfeed %s wants port %v, which %s has.\n" .name .port (get $ports (toString .port))) -}}
{{- end -}}
{{- if not (or .tlsSecret (include "wardroom.plaintext" (list $ .))) -}}
{{- fail (printf "\n\nfeed %s would take patient data over plain TCP from outside of the cluster.\nhint: set tlsSecret to a secret of type kubernetes.io/tls, or allow_plaintext=true where the network itself is private to the feed.\n" .name) -}}
{{- end -}}
{{- if and .clientCa (not .tlsSecret) -}}
{{- fail (printf "\n\nfeed %s has clientCa without tlsSecret.\n" .name) -}}
{{- end -}}
{{- $_ := set $names .name true -}}
{{- $_ := set $ports (toString .port) (printf "feed %s" .name) -}}
{{- end -}}
{{- end -}}

{{/* Whether a feed may go without TLS: when it says so, or when it says nothing and only the cluster reaches it. */}}
{{- define "wardroom.plaintext" -}}
{{- $top := index . 0 -}}
{{- $feed := index . 1 -}}
{{- if hasKey $feed "allow_plaintext" -}}
{{- if $feed.allow_plaintext }}true{{ end -}}
{{- else if eq $top.Values.service.type "ClusterIP" -}}
true
{{- end -}}
{{- end -}}

{{/* wardroom.toml. A JSON string is a TOML string too. */}}
{{- define "wardroom.toml" -}}
[store]
{{- if eq .Values.store.kind "sqlite" }}
url = "sqlite:/var/lib/wardroom/wardroom.db"
{{- else }}
url = {{ printf "file:/etc/wardroom/store/%s" .Values.store.postgres.item | toJson }}
{{- end }}
{{- if .Values.store.key.secret }}
key = {{ printf "file:/etc/wardroom/key/%s" .Values.store.key.item | toJson }}
{{- else }}
key = "file:/var/lib/wardroom/wardroom.key"
{{- end }}

[publish]
to = {{ .Values.publish.to | toJson }}
{{- if eq .Values.publish.to "amqp" }}
[publish.amqp]
url = {{ printf "file:/etc/wardroom/amqp/%s" .Values.publish.amqp.item | toJson }}
exchange = {{ .Values.publish.amqp.exchange | toJson }}
queue = {{ .Values.publish.amqp.queue | toJson }}
{{- end }}
{{ range .Values.feeds }}
[[feeds]]
name = {{ .name | toJson }}
listen = {{ printf "%s:%d" $.Values.listenAddress (int .port) | toJson }}
{{- with .facility }}
facility = {{ . | toJson }}
{{- end }}
{{- with .time_zone }}
time_zone = {{ . | toJson }}
{{- end }}
{{- if and (not .tlsSecret) (include "wardroom.plaintext" (list $ .)) }}
allow_plaintext = true
{{- end }}
{{- with .extra }}
{{ . | trim }}
{{- end }}
{{- if .tlsSecret }}
[feeds.tls]
certificate = {{ printf "/etc/wardroom/feed-tls/%d/tls.crt" (int .port) | toJson }}
key = {{ printf "/etc/wardroom/feed-tls/%d/tls.key" (int .port) | toJson }}
{{- if .clientCa }}
client_ca = {{ printf "/etc/wardroom/feed-tls/%d/ca.crt" (int .port) | toJson }}
{{- end }}
{{- end }}
{{ end }}
[admin]
listen = {{ printf "%s:%d" .Values.listenAddress (int .Values.admin.port) | toJson }}
{{- if .Values.admin.tlsSecret }}
[admin.tls]
certificate = "/etc/wardroom/admin-tls/tls.crt"
key = "/etc/wardroom/admin-tls/tls.key"
{{- end }}
{{- with .Values.telemetry.otlp }}

[telemetry]
otlp = {{ . | toJson }}
{{- end }}
{{- if or .Values.directory.configMap .Values.directory.secret }}

[directory]
staff = "/etc/wardroom/directory/staff.csv"
units = "/etc/wardroom/directory/units.csv"
{{- end }}
{{- with .Values.config }}

{{ . | trim }}
{{- end }}
{{- end -}}

{{/* The pod, the same whoever owns it. */}}
{{- define "wardroom.pod" -}}
metadata:
  labels:
    {{- include "wardroom.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    checksum/config: {{ include "wardroom.toml" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "wardroom.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # The daemon ends within 20 s.
  terminationGracePeriodSeconds: 30
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: wardroom
      image: {{ printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: ["serve", "--config", "/etc/wardroom/config/wardroom.toml"]
      workingDir: /var/lib/wardroom
      env:
        - name: WARDROOM_LOG
          value: {{ .Values.log.filter | quote }}
        {{- with .Values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        {{- range .Values.feeds }}
        - name: {{ printf "mllp-%d" (int .port) }}
          containerPort: {{ .port }}
        {{- end }}
        - name: admin
          containerPort: {{ .Values.admin.port }}
      startupProbe:
        httpGet: {{- include "wardroom.probe" (list . "/livez") | nindent 10 }}
        # Migrations of a large store take their time.
        periodSeconds: 2
        failureThreshold: 150
      livenessProbe:
        httpGet: {{- include "wardroom.probe" (list . "/livez") | nindent 10 }}
        periodSeconds: 10
        timeoutSeconds: 5
      readinessProbe:
        httpGet: {{- include "wardroom.probe" (list . "/readyz") | nindent 10 }}
        periodSeconds: 5
        timeoutSeconds: 5
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: ["ALL"]
      volumeMounts:
        - name: data
          mountPath: /var/lib/wardroom
        - name: tmp
          mountPath: /tmp
        - name: config
          mountPath: /etc/wardroom/config
          readOnly: true
        {{- if .Values.store.key.secret }}
        - name: key
          mountPath: /etc/wardroom/key
          readOnly: true
        {{- end }}
        {{- if eq .Values.store.kind "postgres" }}
        - name: store
          mountPath: /etc/wardroom/store
          readOnly: true
        {{- end }}
        {{- if eq .Values.publish.to "amqp" }}
        - name: amqp
          mountPath: /etc/wardroom/amqp
          readOnly: true
        {{- end }}
        {{- if or .Values.directory.configMap .Values.directory.secret }}
        - name: directory
          mountPath: /etc/wardroom/directory
          readOnly: true
        {{- end }}
        {{- if .Values.admin.tlsSecret }}
        - name: admin-tls
          mountPath: /etc/wardroom/admin-tls
          readOnly: true
        {{- end }}
        {{- range .Values.feeds }}
        {{- if .tlsSecret }}
        - name: {{ printf "feed-tls-%d" (int .port) }}
          mountPath: {{ printf "/etc/wardroom/feed-tls/%d" (int .port) }}
          readOnly: true
        {{- end }}
        {{- end }}
  volumes:
    {{- if eq .Values.store.kind "postgres" }}
    - name: data
      emptyDir:
        sizeLimit: 16Mi
    {{- end }}
    - name: tmp
      emptyDir:
        sizeLimit: 256Mi
    - name: config
      configMap:
        name: {{ include "wardroom.fullname" . }}
    {{- if .Values.store.key.secret }}
    - name: key
      secret:
        secretName: {{ .Values.store.key.secret }}
        defaultMode: 0440
    {{- end }}
    {{- if eq .Values.store.kind "postgres" }}
    - name: store
      secret:
        secretName: {{ .Values.store.postgres.secret }}
        defaultMode: 0440
    {{- end }}
    {{- if eq .Values.publish.to "amqp" }}
    - name: amqp
      secret:
        secretName: {{ .Values.publish.amqp.secret }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.directory.configMap }}
    - name: directory
      configMap:
        name: {{ . }}
    {{- end }}
    {{- with .Values.directory.secret }}
    - name: directory
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.admin.tlsSecret }}
    - name: admin-tls
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- range .Values.feeds }}
    {{- if .tlsSecret }}
    - name: {{ printf "feed-tls-%d" (int .port) }}
      secret:
        secretName: {{ .tlsSecret }}
        defaultMode: 0440
    {{- end }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- toYaml .Values.topologySpreadConstraints | nindent 4 }}
  {{- else if gt (int .Values.replicas) 1 }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "wardroom.selector" . | nindent 10 }}
  {{- end }}
{{- end -}}

{{- define "wardroom.probe" -}}
{{- $top := index . 0 -}}
path: {{ index . 1 }}
port: admin
{{- if $top.Values.admin.tlsSecret }}
scheme: HTTPS
{{- end }}
{{- end -}}
