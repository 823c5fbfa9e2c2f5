-- The health of enginewright.dev's kinds for Argo CD. argocd-cm.yaml holds the same text for each of them.
local health = {status = "Progressing", message = "The operator has not looked at it yet."}
if obj.kind == "GPUClass" then -- it has no status: it is what it says
  return {status = "Healthy", message = "A GPU class has nothing to become."}
end
if obj.status == nil or obj.status.conditions == nil then
  return health
end
if obj.status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "The operator has not looked at this generation yet."}
end
for _, condition in ipairs(obj.status.conditions) do
  if condition.type == "Stalled" and condition.status == "True" then
    if condition.reason == "Paused" then
      return {status = "Suspended", message = condition.message}
    end
    return {status = "Degraded", message = condition.message}
  end
  if condition.type == "Ready" then
    health.message = condition.message
    if condition.status == "True" then
      health.status = "Healthy"
    end
  end
  if condition.type == "Reconciling" and condition.status == "True" then
    return {status = "Progressing", message = condition.message}
  end
end
return health
