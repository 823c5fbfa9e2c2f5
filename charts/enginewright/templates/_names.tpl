{{/* The name of this release's objects: at most 63 characters, since it also becomes a label's value. */}}
{{- define "enginewright.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "enginewright.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "enginewright.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name is empty: with serviceAccount.create=false, name the existing service account of the operator" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* What a Deployment selects by: it may never change in the life of a release. */}}
{{- define "enginewright.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "enginewright.labels" -}}
{{ include "enginewright.selectorLabels" . }}
app.kubernetes.io/part-of: enginewright
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* "true" where the operator has Roles alone, and so reads nothing that has no namespace. */}}
{{- define "enginewright.rolesAlone" -}}
{{- if and .Values.watchNamespaces (not .Values.rbac.clusterReader) -}}true{{- end -}}
{{- end -}}

{{/* An image's full reference. Call with (dict "root" $ "image" .Values.images.operator). A digest wins over the tag. */}}
{{- define "enginewright.image" -}}
{{- $images := .root.Values.images -}}
{{- $name := .image.repository -}}
{{- if $images.registry -}}
{{- $name = printf "%s/%s" (trimSuffix "/" $images.registry) $name -}}
{{- end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $name (default .root.Chart.AppVersion $images.tag) -}}
{{- end -}}
{{- end -}}
