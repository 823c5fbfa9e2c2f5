{{/* The operator's settings, as the variables that its settings.py reads. Lists and objects are JSON. */}}
{{- define "enginewright.environment" -}}
- name: ENGINEWRIGHT_OPERATOR_OPERATOR_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
- name: ENGINEWRIGHT_OPERATOR_HOST
  valueFrom: {fieldRef: {fieldPath: status.podIP}}
- name: ENGINEWRIGHT_OPERATOR_LEASE_NAME
  value: {{ include "enginewright.fullname" . | quote }}
- name: ENGINEWRIGHT_OPERATOR_BUILDER_IMAGE
  value: {{ include "enginewright.image" (dict "root" . "image" .Values.images.builder) | quote }}
- name: ENGINEWRIGHT_OPERATOR_RUNTIME_IMAGE
  value: {{ include "enginewright.image" (dict "root" . "image" .Values.images.runtime) | quote }}
- name: ENGINEWRIGHT_OPERATOR_IMAGE_PULL_POLICY
  value: {{ .Values.images.pullPolicy | quote }}
- name: ENGINEWRIGHT_OPERATOR_RESYNC_SECONDS
  value: {{ .Values.operator.resyncSeconds | quote }}
- name: ENGINEWRIGHT_OPERATOR_BUILDS_AT_ONCE
  value: {{ .Values.operator.buildsAtOnce | quote }}
- name: ENGINEWRIGHT_OPERATOR_COLLECT_AFTER
  value: {{ .Values.operator.collectAfterSeconds | quote }}
- name: ENGINEWRIGHT_OPERATOR_LEASE_SECONDS
  value: {{ .Values.operator.leaseSeconds | quote }}
{{- with .Values.operator.scrapeProxy }}
- name: ENGINEWRIGHT_OPERATOR_SCRAPE_PROXY
  value: {{ . | quote }}
{{- end }}
- name: ENGINEWRIGHT_OPERATOR_HEALTH_PORT
  value: {{ .Values.operator.healthPort | quote }}
- name: ENGINEWRIGHT_OPERATOR_BUILD_CPU
  value: {{ .Values.build.cpu | quote }}
- name: ENGINEWRIGHT_OPERATOR_BUILD_MEMORY
  value: {{ .Values.build.memory | quote }}
- name: ENGINEWRIGHT_OPERATOR_BUILD_SCRATCH
  value: {{ .Values.build.scratch | quote }}
- name: ENGINEWRIGHT_OPERATOR_BUILD_RETRIES
  value: {{ .Values.build.retries | quote }}
- name: ENGINEWRIGHT_OPERATOR_SERVING_CACHE
  value: {{ .Values.serving.cache | quote }}
- name: ENGINEWRIGHT_OPERATOR_DRAIN_DELAY
  value: {{ .Values.serving.drainDelaySeconds | quote }}
- name: ENGINEWRIGHT_OPERATOR_METRICS_PORT
  value: {{ .Values.metrics.port | quote }}
{{- $storage := dict }}
{{- with .Values.defaultStorage }}
{{- range $key, $value := dict "uri" .uri "endpoint" .endpoint "region" .region "path_style" .pathStyle "credentials_secret" .credentialsSecret }}
{{- if $value }}
{{- $_ := set $storage $key $value }}
{{- end }}
{{- end }}
{{- end }}
{{- if $storage.uri }}
- name: ENGINEWRIGHT_OPERATOR_DEFAULT_STORAGE
  value: {{ toJson $storage | quote }}
{{- else if $storage }}
{{- fail "defaultStorage has settings but no uri: set defaultStorage.uri to s3://bucket/prefix, or leave all of defaultStorage empty" }}
{{- end }}
{{- if .Values.plugins.allow }}
- name: ENGINEWRIGHT_OPERATOR_ALLOW_PLUGINS
  value: "true"
{{- end }}
{{- if ne .Values.signing.policy "off" }}
{{- if not .Values.signing.trustedKeys }}
{{- fail (printf "signing.policy is %s, and signing.trustedKeys names no ConfigMap of public keys: name it, or set signing.policy to \"off\"" .Values.signing.policy) }}
{{- end }}
- name: ENGINEWRIGHT_OPERATOR_SIGNATURE_POLICY
  value: {{ .Values.signing.policy | quote }}
- name: ENGINEWRIGHT_OPERATOR_TRUSTED_KEYS
  value: {{ .Values.signing.trustedKeys | quote }}
{{- end }}
{{- with .Values.tracing.endpoint }}
- name: ENGINEWRIGHT_OPERATOR_TRACING_ENDPOINT
  value: {{ . | quote }}
{{- end }}
{{- with .Values.signing.secret }}
- name: ENGINEWRIGHT_OPERATOR_SIGNING_SECRET
  value: {{ . | quote }}
{{- end }}
{{- if include "enginewright.rolesAlone" . }}
{{- $classes := dict }}
{{- range $name, $spec := .Values.gpuClasses.classes }}
{{- $_ := set $classes $name (include "enginewright.gpuClass" (dict "root" $ "spec" $spec) | fromJson) }}
{{- end }}
- name: ENGINEWRIGHT_OPERATOR_GPU_CLASSES
  value: {{ toJson $classes | quote }}
{{- end }}
{{- with .Values.watchNamespaces }}
- name: ENGINEWRIGHT_OPERATOR_WATCH_NAMESPACES
  value: {{ toJson . | quote }}
{{- end }}
{{- end -}}
